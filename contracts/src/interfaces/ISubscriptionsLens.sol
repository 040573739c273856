// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title What one eth_call with SubscriptionsLens's creation code answers.
/// @notice `snapshot` exists nowhere on chain. It is the shape of the arguments and of the result, for tools that decode
/// by ABI: call with `data = creationCode || abi.encode(arguments)`, no `to`; decode as the result of `snapshot`.
///
/// Lists come as one word an element, so that an answer has room for hundreds (from the lowest bit):
///
/// | word | bits |
/// |---|---|
/// | subscription | subscriber 160, expiresAt 40, planId 16, block of the purchase 32, cancelled 1, plan active 1, plan renewable 1; 0 = no such subscription |
/// | plan | price per day in US cents 96, active 1, renewable 1 |
/// | token | owner 160, expiresAt 40 (0 = never); 0 = no such token |
interface ISubscriptionsLens {
    /// @param blockNumber Block the call ran in.
    /// @param timestamp Unix seconds of that block.
    /// @param subscriptionCount getTotalSubscriptionCount(); the highest id.
    /// @param planCount getTotalPlanCount(); the highest id.
    /// @param owner owner() of the subscriptions contract.
    /// @param purchasesPaused Whether nobody can buy now.
    /// @param nftOwner owner() of the NFT contract; zero without one.
    /// @param nftMinter minter() of the NFT contract; zero if it has none.
    /// @param tokenCount totalSupply() of the NFT contract.
    /// @param subscriptions The subscriptions cursor+1, cursor+2, and so on, without gap. Fewer than asked for when the answer
    /// would exceed 24,576 bytes (there is room for 170 at least, 670 if nothing else is asked for) or the gas runs low: continue
    /// from the last id returned. At least one if there is one.
    /// @param watched One per watchIds, in the same order.
    /// @param tokens One per tokenIds, in the same order.
    /// @param plans The plans 1, 2, and so on, the first 64 at most.
    /// @param balances Wei held by each of `wallets`, in the same order.
    struct Snapshot {
        uint256 blockNumber;
        uint256 timestamp;
        uint256 chainId;
        uint256 subscriptionCount;
        uint256 planCount;
        address owner;
        bool purchasesPaused;
        address nftOwner;
        address nftMinter;
        uint256 tokenCount;
        uint256[] subscriptions;
        uint256[] watched;
        uint256[] tokens;
        uint256[] plans;
        uint256[] balances;
    }

    /// @notice Nothing lives at this address in the block the call ran in.
    error NoContract(address where);
    /// @notice Split the lists over several calls.
    error TooManyWatched(uint256 count, uint256 max);
    /// @notice The endpoint gives a call so little gas that not one subscription could be looked at.
    error NotEnoughGas(uint256 left, uint256 needed);

    /// @param subscriptions A BlockhostSubscriptions.
    /// @param nft The host's AccessCredentialNFT, of any generation; zero = none yet.
    /// @param cursor Highest subscription id already known; 0 at the start.
    /// @param max Subscriptions wanted at most; any number.
    /// @param watchIds Subscriptions whose state is wanted again.
    /// @param tokenIds Tokens of `nft` whose state is wanted.
    /// @param wallets Wallets whose balance is wanted; 500 at most together with watchIds and tokenIds.
    function snapshot(
        address subscriptions,
        address nft,
        uint256 cursor,
        uint256 max,
        uint256[] calldata watchIds,
        uint256[] calldata tokenIds,
        address[] calldata wallets
    ) external view returns (Snapshot memory);
}
