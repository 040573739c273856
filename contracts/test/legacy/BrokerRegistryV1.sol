// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title Stands in for the registry of the first generation, with its defects. For tests; never deploy it.
/// @dev Written from the field's facts: same functions, layout, rules and events. The texts of the reverts of which no
/// record exists are this file's own. What of it is wrong: any 65 bytes pass for a key; no operator can move to another
/// wallet or requests contract.
contract BrokerRegistryV1 is Ownable {
    struct Broker {
        address operator;
        address requestsContract;
        bytes encryptionPubkey;
        string region;
        bool active;
        uint256 capacity;
        uint256 currentLoad;
        uint256 registeredAt;
    }

    Broker[] public brokers;
    mapping(address => uint256) public operatorToBrokerId;
    mapping(address => uint256) public requestsContractToBrokerId;

    event BrokerRegistered(uint256 indexed brokerId, address indexed operator, address requestsContract, string region);
    event BrokerUpdated(uint256 indexed brokerId, address indexed operator);
    event BrokerDeactivated(uint256 indexed brokerId, address indexed operator);
    event BrokerActivated(uint256 indexed brokerId, address indexed operator);
    event BrokerLoadUpdated(uint256 indexed brokerId, uint256 currentLoad);

    constructor() Ownable(msg.sender) {}

    function registerBroker(
        address operator,
        address requestsContract,
        bytes calldata encryptionPubkey,
        string calldata region,
        uint256 capacity
    ) external onlyOwner returns (uint256 brokerId) {
        require(operator != address(0), "Invalid operator");
        require(requestsContract != address(0), "Invalid requests contract");
        require(encryptionPubkey.length == 65, "Invalid pubkey length");
        require(requestsContractToBrokerId[requestsContract] == 0, "Requests contract already registered");
        _admit(operator);
        brokers.push(Broker(operator, requestsContract, encryptionPubkey, region, true, capacity, 0, block.timestamp));
        brokerId = brokers.length;
        operatorToBrokerId[operator] = brokerId;
        requestsContractToBrokerId[requestsContract] = brokerId;
        emit BrokerRegistered(brokerId, operator, requestsContract, region);
    }

    function updateEncryptionPubkey(bytes calldata encryptionPubkey) external {
        require(encryptionPubkey.length == 65, "Invalid pubkey length");
        _own().encryptionPubkey = encryptionPubkey;
        emit BrokerUpdated(operatorToBrokerId[msg.sender], msg.sender);
    }

    function updateRegion(string calldata region) external {
        require(bytes(region).length > 0, "Empty region");
        _own().region = region;
        emit BrokerUpdated(operatorToBrokerId[msg.sender], msg.sender);
    }

    function updateCapacity(uint256 capacity) external {
        _own().capacity = capacity;
        emit BrokerUpdated(operatorToBrokerId[msg.sender], msg.sender);
    }

    function updateLoad(uint256 currentLoad) external {
        Broker storage broker = _own();
        require(broker.capacity == 0 || currentLoad <= broker.capacity, "Load exceeds capacity");
        broker.currentLoad = currentLoad;
        emit BrokerLoadUpdated(operatorToBrokerId[msg.sender], currentLoad);
    }

    function deactivate() external {
        _own().active = false;
        emit BrokerDeactivated(operatorToBrokerId[msg.sender], msg.sender);
    }

    function activate() external {
        _own().active = true;
        emit BrokerActivated(operatorToBrokerId[msg.sender], msg.sender);
    }

    function removeBroker(uint256 brokerId) external onlyOwner {
        Broker storage broker = _at(brokerId);
        emit BrokerDeactivated(brokerId, broker.operator);
        delete operatorToBrokerId[broker.operator];
        delete requestsContractToBrokerId[broker.requestsContract];
        broker.active = false;
        broker.operator = address(0);
    }

    function getBroker(uint256 brokerId) external view returns (Broker memory) {
        return _at(brokerId);
    }

    function getBrokerCount() external view returns (uint256) {
        return brokers.length;
    }

    function isOperator(address operator) external view returns (bool) {
        return operatorToBrokerId[operator] != 0;
    }

    /// @dev What happens to an operator that is known already.
    function _admit(address operator) internal virtual {
        require(operatorToBrokerId[operator] == 0, "Operator already registered");
    }

    function _own() private view returns (Broker storage) {
        require(operatorToBrokerId[msg.sender] != 0, "Not an operator");
        return brokers[operatorToBrokerId[msg.sender] - 1];
    }

    function _at(uint256 brokerId) private view returns (Broker storage) {
        require(brokerId > 0 && brokerId <= brokers.length, "Invalid broker ID");
        return brokers[brokerId - 1];
    }
}
