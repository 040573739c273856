// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BlockhostSubscriptions} from "../src/BlockhostSubscriptions.sol";
import {IBlockhostSubscriptions} from "../src/interfaces/IBlockhostSubscriptions.sol";
import {Test} from "./Test.sol";

/// @dev The selectors and topics that tools in the field use, as published for the generation of February 2026.
contract BlockhostSubscriptionsAbiTest is Test {
    function test_selectors_areThoseOfTheField() external pure {
        _is(IBlockhostSubscriptions.setPrimaryStablecoin.selector, 0x60d2c9d1);
        _is(IBlockhostSubscriptions.createPlan.selector, 0x4e09bf46);
        _is(IBlockhostSubscriptions.updatePlan.selector, 0xf8fd9cb8);
        _is(IBlockhostSubscriptions.cancelSubscription.selector, 0x21235083);
        _is(IBlockhostSubscriptions.addPaymentMethod.selector, 0x1f40d996);
        _is(IBlockhostSubscriptions.updatePaymentMethod.selector, 0xefd843e5);
        _is(IBlockhostSubscriptions.withdrawFunds.selector, 0x000fa9fb);
        _is(IBlockhostSubscriptions.setSlippageBps.selector, 0x1a3ce4e6);
        _is(IBlockhostSubscriptions.setMinLiquidity.selector, 0x5c4c4749);
        _is(IBlockhostSubscriptions.buySubscription.selector, 0xd4e69225);
        _is(IBlockhostSubscriptions.extendSubscription.selector, 0x526e1442);
        _is(IBlockhostSubscriptions.daysRemaining.selector, 0x17c9769c);
        _is(IBlockhostSubscriptions.getSubscription.selector, 0xdc311dd3);
        _is(IBlockhostSubscriptions.getPlan.selector, 0x26cd5274);
        _is(IBlockhostSubscriptions.getPrimaryStablecoin.selector, 0x70fd351d);
        _is(IBlockhostSubscriptions.getPaymentMethodIds.selector, 0x12a82fc8);
        _is(IBlockhostSubscriptions.getPaymentMethod.selector, 0x1c944100);
        _is(IBlockhostSubscriptions.calculatePayment.selector, 0x2f49b868);
        _is(IBlockhostSubscriptions.getTokenPriceUsdCents.selector, 0x5bd1854e);
        _is(IBlockhostSubscriptions.getTotalSubscriptionCount.selector, 0x1a9fefd1);
        _is(IBlockhostSubscriptions.getTotalPlanCount.selector, 0xd7dd2c99);
        _is(IBlockhostSubscriptions.getSubscriptionsExpiringSoon.selector, 0xdb0d5b79);
        _is(IBlockhostSubscriptions.getExpiredSubscriptions.selector, 0xcec8b06e);
        _is(IBlockhostSubscriptions.getSubscriptionsBySubscriber.selector, 0x812ed898);
        _is(IBlockhostSubscriptions.isSubscriptionActive.selector, 0x57e2c0f5);
    }

    function test_topics_areThoseOfTheField() external pure {
        vm.assertEq(
            IBlockhostSubscriptions.SubscriptionCreated.selector,
            0xf8d0042297eb90d4c0e69b16b80a93bdee5b71f0a963a1961a4de8c551958b55,
            "SubscriptionCreated"
        );
        vm.assertEq(
            IBlockhostSubscriptions.SubscriptionExtended.selector,
            0x80f867aeffc74b04b4f387cfc5572b2a3537d8705579fb696da4019cc8069e09,
            "SubscriptionExtended"
        );
        vm.assertEq(
            IBlockhostSubscriptions.SubscriptionCancelled.selector,
            0x66f43ba68b89239cf7af6921b9dcdaf6ce93c7223af7a53e343dbedcc082a104,
            "SubscriptionCancelled"
        );
        vm.assertEq(
            IBlockhostSubscriptions.PlanCreated.selector,
            0x135a65e1936006594178a9666e5ddf1d2099f18e72674253a206ed70ade01cc9,
            "PlanCreated"
        );
        vm.assertEq(
            IBlockhostSubscriptions.PlanUpdated.selector,
            0x98d9b93420109e31b5f297c50e34a5907d18ec99519b549841a4e2e44ed603eb,
            "PlanUpdated"
        );
        vm.assertEq(
            IBlockhostSubscriptions.PrimaryStablecoinSet.selector,
            0x049f622fd06ba905bb91b8ea6b416f19b5dfdbf4b20b93b4f7e59c66dff6a402,
            "PrimaryStablecoinSet"
        );
        vm.assertEq(
            IBlockhostSubscriptions.PaymentMethodAdded.selector,
            0xc74a90c669f762a266204078fc166e66430490a15b90872be19f28828342ae3c,
            "PaymentMethodAdded"
        );
        vm.assertEq(
            IBlockhostSubscriptions.PaymentMethodUpdated.selector,
            0x062a43f31b40fa5f8ad6a2d7177d4536a7896a80ed53b18955c2e6b2cda8cdc1,
            "PaymentMethodUpdated"
        );
        vm.assertEq(
            IBlockhostSubscriptions.FundsWithdrawn.selector,
            0xa92ff919b850e4909ab2261d907ef955f11bc1716733a6cbece38d163a69af8a,
            "FundsWithdrawn"
        );
        vm.assertEq(
            IBlockhostSubscriptions.SlippageUpdated.selector,
            keccak256("SlippageUpdated(uint256,uint256)"),
            "SlippageUpdated"
        );
        vm.assertEq(
            IBlockhostSubscriptions.MinLiquidityUpdated.selector,
            keccak256("MinLiquidityUpdated(uint256,uint256)"),
            "MinLiquidityUpdated"
        );
    }

    function test_errors_areThoseOfTheField() external pure {
        _is(IBlockhostSubscriptions.PlanNotFound.selector, bytes4(keccak256("PlanNotFound(uint256)")));
        _is(IBlockhostSubscriptions.PlanNotActive.selector, bytes4(keccak256("PlanNotActive(uint256)")));
        _is(IBlockhostSubscriptions.PlanPriceMustBePositive.selector, bytes4(keccak256("PlanPriceMustBePositive()")));
        _is(IBlockhostSubscriptions.SubscriptionNotFound.selector, bytes4(keccak256("SubscriptionNotFound(uint256)")));
        _is(
            IBlockhostSubscriptions.SubscriptionAlreadyCancelled.selector,
            bytes4(keccak256("SubscriptionAlreadyCancelled(uint256)"))
        );
        _is(IBlockhostSubscriptions.PaymentMethodNotFound.selector, bytes4(keccak256("PaymentMethodNotFound(uint256)")));
        _is(
            IBlockhostSubscriptions.PaymentMethodNotActive.selector,
            bytes4(keccak256("PaymentMethodNotActive(uint256)"))
        );
        _is(IBlockhostSubscriptions.PrimaryStablecoinNotSet.selector, bytes4(keccak256("PrimaryStablecoinNotSet()")));
        _is(IBlockhostSubscriptions.InvalidAddress.selector, bytes4(keccak256("InvalidAddress()")));
        _is(IBlockhostSubscriptions.DaysMustBePositive.selector, bytes4(keccak256("DaysMustBePositive()")));
        _is(IBlockhostSubscriptions.SlippageTooHigh.selector, bytes4(keccak256("SlippageTooHigh()")));
        _is(IBlockhostSubscriptions.NoBalanceToWithdraw.selector, bytes4(keccak256("NoBalanceToWithdraw()")));
        _is(IBlockhostSubscriptions.TokenNotInPair.selector, bytes4(keccak256("TokenNotInPair()")));
        _is(IBlockhostSubscriptions.InsufficientLiquidity.selector, bytes4(keccak256("InsufficientLiquidity()")));
    }

    function test_state_startsLikeTheField() external {
        BlockhostSubscriptions subs = new BlockhostSubscriptions();
        vm.assertEq(subs.owner(), address(this), "owner");
        vm.assertEq(subs.STABLECOIN_PAYMENT_ID(), 1, "STABLECOIN_PAYMENT_ID");
        vm.assertEq(subs.nextPlanId(), 1, "nextPlanId");
        vm.assertEq(subs.nextSubscriptionId(), 1, "nextSubscriptionId");
        vm.assertEq(subs.nextPaymentMethodId(), 2, "nextPaymentMethodId");
        vm.assertEq(subs.slippageBps(), 100, "slippageBps");
        vm.assertEq(subs.minLiquidityUsd(), 10_000e6, "minLiquidityUsd");
        vm.assertEq(subs.getTotalPlanCount(), 0, "plans");
        vm.assertEq(subs.getTotalSubscriptionCount(), 0, "subscriptions");
        vm.assertEq(subs.getPrimaryStablecoin(), address(0), "stablecoin");
        vm.assertEq(subs.getPaymentMethodIds().length, 0, "methods");
        vm.assertEq(subs.getPaymentTokens().length, 0, "tokens");
        vm.assertEq(subs.MAX_DAYS(), 36_500, "MAX_DAYS");
        vm.assertEq(subs.MAX_USER_ENCRYPTED(), 4096, "MAX_USER_ENCRYPTED");
        vm.assertEq(subs.PRICE_WINDOW(), 1800, "PRICE_WINDOW");
    }

    function _is(bytes4 ours, bytes4 published) private pure {
        vm.assertEq(bytes32(ours), bytes32(published), "selector");
    }
}
